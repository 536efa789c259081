"""The data sets, one file each; what a file names as `DATA_SETS` is found by `data.prepare`."""
