from ._opening import check_spec as check_spec
from ._opening import open_judge as open_judge
from .base import Case as Case
from .base import Cut as Cut
from .base import Judge as Judge
from .base import Judged as Judged
from .base import OverBudget as OverBudget
from .base import Rubric as Rubric
from .base import Scale as Scale
from .cache import JudgeCache as JudgeCache
from .calibration import Agreement as Agreement
from .calibration import Calibration as Calibration
from .calibration import Known as Known
from .calibration import agreement as agreement
from .calibration import calibrate as calibrate
from .calibration import check as check
from .calibration import known_cases as known_cases
from .endpoint import Budget as Budget
from .endpoint import EndpointJudge as EndpointJudge
from .local import EngineJudge as EngineJudge
from .local import Panel as Panel
from .rubrics import RUBRICS as RUBRICS
from .rubrics import rubric as rubric

__all__ = [
    "RUBRICS",
    "Agreement",
    "Budget",
    "Calibration",
    "Case",
    "Cut",
    "EndpointJudge",
    "EngineJudge",
    "Judge",
    "JudgeCache",
    "Judged",
    "Known",
    "OverBudget",
    "Panel",
    "Rubric",
    "Scale",
    "agreement",
    "calibrate",
    "check",
    "check_spec",
    "known_cases",
    "open_judge",
    "rubric",
]
