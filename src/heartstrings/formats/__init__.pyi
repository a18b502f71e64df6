from .reading import ImportFormat as ImportFormat
from .reading import import_vectors as import_vectors
from .writing import ExportFormat as ExportFormat
from .writing import export_vectors as export_vectors

__all__ = ["ExportFormat", "ImportFormat", "export_vectors", "import_vectors"]
