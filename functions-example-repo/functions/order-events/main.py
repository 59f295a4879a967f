"""Runs once for every order that was placed."""


def handler(event):
    print(f"order received: {event}", flush=True)
