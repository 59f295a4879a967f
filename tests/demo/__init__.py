"""`make demo`: from nothing to a signed webhook, Ready functions and a dead letter that is sent again."""
