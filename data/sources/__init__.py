"""Where problems come from: seeded generators, files and data sets."""
