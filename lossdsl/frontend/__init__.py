"""From text to programs: parse, resolve, lower."""

from lossdsl.frontend.library import library_names, load_library, load_path, load_text

__all__ = ["library_names", "load_library", "load_path", "load_text"]
