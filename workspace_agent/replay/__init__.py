"""Python packages that a workspace asks for, back in every fresh container."""
