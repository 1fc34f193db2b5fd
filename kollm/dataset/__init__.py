"""The fourth stage: the build, from sources to a dataset folder, and what stands in the folder."""
