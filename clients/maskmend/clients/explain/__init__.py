"""Pictures of where a refiner looked and what it said, with the same as data."""
