from .comparison import render_comparison as render_comparison
from .overview import render_overview as render_overview
from .single import render as render
from .verdict_files import read_verdict as read_verdict
from .verdict_page import render_verdict as render_verdict
from .words import number as number
from .words import p_value as p_value

__all__ = ["number", "p_value", "read_verdict", "render", "render_comparison", "render_overview", "render_verdict"]
