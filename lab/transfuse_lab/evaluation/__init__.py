"""What is measured of a trained model: evaluation, metrics, the judge of pictures."""
