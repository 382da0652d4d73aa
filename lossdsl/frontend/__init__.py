"""From text to programs: parse, resolve, lower."""

from lossdsl.frontend.choose import chosen
from lossdsl.frontend.files import library_names
from lossdsl.frontend.load import load_library, load_path, load_text, load_text_with_warnings
from lossdsl.frontend.remarks import Remark

__all__ = ["Remark", "chosen", "library_names", "load_library", "load_path", "load_text", "load_text_with_warnings"]
