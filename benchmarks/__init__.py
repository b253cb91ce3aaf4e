"""What this project claims about speed, each measured beside a peer in one run."""
