"""Solves many initial value problems side by side; knows nothing of diffusion.

solve, lanes: one batch; any number of problems on a fixed number of lanes.
dormand_prince5, dormand_prince8, bogacki_shampine3, heun, runge_kutta4: methods (tableau);
adams: one evaluation a step; solver: any of them.
control: steps by tolerance or by number (step_controller).
integrator (one_step, multistep), lane_state, drivers, solution: how it is done.
divergence: hutchinson_trace (probes), hutch_plus_plus, exact_trace.
"""
