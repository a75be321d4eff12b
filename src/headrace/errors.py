"""The errors Headrace raises on purpose.

Each message says what was wrong, with which value, and what to do about it. Anything else that escapes is a defect.
"""


class HeadraceError(Exception):
    """Base of every error that a user can cause or mend.

    `problem` names what was wrong and the offending value; `remedy` says what to do.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}" if remedy else problem)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross from process to process with all that they hold, whatever their class is made with."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[HeadraceError], message: tuple[object, ...], held: dict[str, object]) -> HeadraceError:
    error = kind.__new__(kind, *message)
    error.__dict__.update(held)
    return error


class RequestError(HeadraceError):
    """A request holds a value that no model, or not this model, can serve. `field` names it."""

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        self.field = field
        super().__init__(problem, remedy)


class CapacityError(RequestError):
    """A request is larger than the whole memory budget of the engine, so waiting would never help."""


class ModelError(HeadraceError):
    """A model folder cannot be used."""


class ModelNotFoundError(ModelError):
    """No embedded model has this name and no folder stands at this path."""


class UnsupportedModelError(ModelError):
    """The folder is a model of a family that has no adapter."""


class CorruptModelError(ModelError):
    """A file of the model is missing, truncated or not what it should be."""


class UnsafeWeightsError(ModelError):
    """The weights are pickled. Headrace never unpickles a model file."""


class SolverError(HeadraceError):
    """A solver is unknown, or its configuration cannot be compiled into a plan."""


class NotLinearError(SolverError):
    """The solver's update is not linear in (sample, model outputs, noise), so it has no plan."""


class PlanError(HeadraceError):
    """A plan's table is not valid: a column of the wrong shape, type or range."""


class NumericalError(HeadraceError):
    """A request's latents became NaN or infinite."""


class ExecutionError(HeadraceError):
    """The network or the decoder raised on this request alone."""


class OrderError(HeadraceError):
    """A round that cannot be run was ordered: a row of a request without a slot, a chunk of one not denoised."""


class RecipeError(HeadraceError):
    """A training recipe has an unknown key, a wrong type or values that do not fit together."""


class DataError(HeadraceError):
    """A data set cannot be read or holds nothing usable."""


class TrainingError(HeadraceError):
    """Training had to stop: a NaN loss, or a checkpoint of another network."""


class OutputError(HeadraceError):
    """A result cannot be written: no space, no permission, or the path is taken."""


class ArtefactError(HeadraceError):
    """An artefact is missing, unreadable or out of range, or was made for another model, solver or block list."""


class CalibrationError(HeadraceError):
    """A calibration was asked for what it cannot give: a negative threshold, a saving out of reach, a single step."""


class TuningError(HeadraceError):
    """A tuning was asked for what no settings give, or its folder holds the state of another one."""


class ServingError(HeadraceError):
    """A scheduler, controller or simulation was given what it cannot work with: eta below 0, an unknown policy."""


class TraceError(ServingError):
    """A trace of arrivals cannot be read, lacks a column, goes back in time or holds a value out of range."""


class ServiceError(HeadraceError):
    """The service as a whole cannot do its work: its engine does not start, or a replica is lost for good."""


class NotReadyError(ServiceError):
    """The engine's process has not loaded its model yet."""


class StoppingError(ServiceError):
    """The service drains and takes no more wishes."""


class BusyError(ServiceError):
    """More is waiting than the service takes. There should be room after `retry_after_s` seconds."""

    def __init__(self, problem: str, retry_after_s: float, remedy: str = "") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(problem, remedy)


class DeadlineError(ServiceError):
    """A picture cannot be there in time: it should take `expected_s` seconds from now."""

    def __init__(self, problem: str, expected_s: float, remedy: str = "") -> None:
        self.expected_s = expected_s
        super().__init__(problem, remedy)


class PoisonError(ServiceError):
    """A wish crashed the engine's process whenever it ran, and was failed alone."""


class HeadraceWarning(UserWarning):
    """Something works, but not as well as it could; the message says what would be better."""
