"""Image registries: the port (`base`), its HTTP adapter and its memory twin. Asked whether a tag is built already."""
