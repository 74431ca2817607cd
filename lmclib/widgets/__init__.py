"""Live controls for a notebook, a file a chapter; on a page without Python each says where it works."""
