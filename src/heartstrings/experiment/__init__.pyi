from .cells import check_scenarios as check_scenarios
from .cells import check_template as check_template
from .controls import direction_set as direction_set
from .controls import read_story_activations as read_story_activations
from .dose_fit import fit_doses as fit_doses
from .dose_fit import read_doses as read_doses
from .dose_fit import write_doses as write_doses
from .dry_run import estimate as estimate
from .dry_run import measured as measured
from .hand_grades import ANSWERS as ANSWERS
from .hand_grades import decided as decided
from .judging import Refused as Refused
from .judging import judge_samples as judge_samples
from .judging import try_judge as try_judge
from .judging import write_report as write_report
from .ledger import CONTROL_KINDS as CONTROL_KINDS
from .ledger import SampleLedger as SampleLedger
from .looks import look_of as look_of
from .plan import Thresholds as Thresholds
from .plan import load_plan as load_plan
from .plan import write_plan as write_plan
from .run import run_experiment as run_experiment

__all__ = [
    "ANSWERS",
    "CONTROL_KINDS",
    "Refused",
    "SampleLedger",
    "Thresholds",
    "check_scenarios",
    "check_template",
    "decided",
    "direction_set",
    "estimate",
    "fit_doses",
    "judge_samples",
    "load_plan",
    "look_of",
    "measured",
    "read_doses",
    "read_story_activations",
    "run_experiment",
    "try_judge",
    "write_doses",
    "write_plan",
    "write_report",
]
