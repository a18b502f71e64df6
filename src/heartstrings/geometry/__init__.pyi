from .analysis import analyse as analyse
from .comparison import compare as compare
from .readout import ReadoutResult as ReadoutResult
from .readout import read_out as read_out
from .readout import read_scenarios as read_scenarios
from .results import Comparison as Comparison
from .results import Geometry as Geometry
from .results import LayerGeometry as LayerGeometry

__all__ = [
    "Comparison",
    "Geometry",
    "LayerGeometry",
    "ReadoutResult",
    "analyse",
    "compare",
    "read_out",
    "read_scenarios",
]
