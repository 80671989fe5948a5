"""How requests and replies are exchanged: one-way, ping-pong, and the words for each."""
