"""One pure builder per child manifest, and beside them (`observed`) what is kept of each child that is seen."""
