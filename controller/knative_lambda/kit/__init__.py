"""Small tools without any domain: clock, backoff, digest, durations, redaction, logging."""
