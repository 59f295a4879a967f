"""A git repository becomes LambdaFunctions: fetch, discover, compare, apply. Level-triggered."""
