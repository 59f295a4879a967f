"""Runs once for every order that was placed."""

import logging


def handler(event):
    logging.info("order received: %s", event)
    return ""
