"""Short 1-D series beside text, as somebody outside transfuse's tree would bring them."""
