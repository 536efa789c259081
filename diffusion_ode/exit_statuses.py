"""How a process of this program ends, told to the shell and to the processes of the same run."""

DONE = 0
FAILED = 1  # the log has the traceback
REFUSED = 2  # the request is wrong: one sentence says what to do
INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: all is saved, the same command goes on
ABORTED = 130  # as shells report a death by SIGINT
