"""What bench/peer.py compares: transfuse, transfusion-pytorch, and a plain padded model, each behind one interface."""
