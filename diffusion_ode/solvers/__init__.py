"""Solves many initial value problems side by side; knows nothing of diffusion.

- `solve`, `lanes`: one batch; any number of problems on a fixed number of lanes.
- `solver`: what a method promises; `vector_field`: what it integrates.
- `euler`, `heun`, `bogacki_shampine3`, `runge_kutta4`, `dormand_prince5`, `dormand_prince8`: one
  tableau each (`tableau`, `runge_kutta`); `adams`: one evaluation a step; `dpm_solver_plus_plus`:
  exponential; `whole_step`: for methods of one's own.
- `step_controller`: who chooses the steps (`pi_controller`: by tolerance; `fixed_steps`: by their
  number).
- `integrator`, `lane_state`, `drivers`, `solution`: how it is done.
- `divergence`: `hutchinson_trace` (probes), `hutch_plus_plus`, `exact_trace`.
"""
