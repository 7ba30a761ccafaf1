"""Images as discrete codes beside the text's tokens: the Chameleon side of the comparison."""
