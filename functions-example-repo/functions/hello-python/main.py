"""Answers with a greeting."""


def handler(request):
    return "Hello from Python\n"
