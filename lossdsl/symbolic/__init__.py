"""SymPy beside the representation: expressions there and back. SymPy is loaded when one of the modules is."""
