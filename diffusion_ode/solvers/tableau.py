"""The numbers that make an explicit Runge–Kutta method."""

from dataclasses import dataclass

Row = tuple[float, ...]

# Coefficients of 16 digits: sums over up to 12 of them agree to this.
_SUM_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Tableau:
    """Butcher tableau of an explicit Runge–Kutta method with S stages.

    k_i = f(s + c_i h, z + h sum_j a_ij k_j), z_new = z + h sum_i b_i k_i,
    error = h sum_i b_error_i k_i.

    Attributes:
      name: the method's name, for messages and figures.
      a: S rows; row i has the i weights of the earlier stages.
      b: S weights of the step.
      c: S abscissae; c_i is the sum of row i.
      order: of the step (local error h^(order + 1)).
      fsal: the last stage is the next step's first ("first same as last").
      b_error: S weights of the error estimate, or None for a method without one.
      error_order: the estimate is of size h^(error_order + 1).
      b_error_low: S weights of a second, lower-order estimate, for methods that weigh the two
        against each other (Hairer, Nørsett and Wanner, Solving ODEs I, section II.10).
    """

    name: str
    a: tuple[Row, ...]
    b: Row
    c: Row
    order: int
    fsal: bool = False
    b_error: Row | None = None
    error_order: int | None = None
    b_error_low: Row | None = None

    def __post_init__(self) -> None:
        stages = len(self.b)
        if [len(row) for row in self.a] != list(range(stages)) or len(self.c) != stages:
            raise ValueError(f"{self.name}: rows of a must have 0 to {stages - 1} entries")
        for row, abscissa in zip(self.a, self.c, strict=True):
            if abs(sum(row) - abscissa) > _SUM_TOLERANCE:
                raise ValueError(f"{self.name}: the row of c = {abscissa} sums to {sum(row)}")
        if abs(sum(self.b) - 1) > _SUM_TOLERANCE:
            raise ValueError(f"{self.name}: b sums to {sum(self.b)}, it must sum to 1")
        for weights in (self.b_error, self.b_error_low):
            if weights is not None and (
                len(weights) != stages or abs(sum(weights)) > _SUM_TOLERANCE
            ):
                raise ValueError(f"{self.name}: error weights must be {stages} and sum to 0")
        if self.fsal and self.a[-1] != self.b[:-1]:
            raise ValueError(f"{self.name}: with fsal the last row of a must be b")

    @property
    def stages(self) -> int:
        return len(self.b)
