"""What the experiments share: data, quality, timing, rivals, and how results are kept and shown."""
