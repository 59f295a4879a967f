"""Where code comes from: the port (`base`), the dial policy, and one module per kind of source."""
