from ._numbers import number as number
from ._numbers import p_value as p_value
from .atlas import render as render
from .comparison import render_comparison as render_comparison
from .overview import render_overview as render_overview
from .screen import render_screen as render_screen
from .verdict_files import read_verdict as read_verdict
from .verdict_page import render_verdict as render_verdict

__all__ = [
    "number",
    "p_value",
    "read_verdict",
    "render",
    "render_comparison",
    "render_overview",
    "render_screen",
    "render_verdict",
]
