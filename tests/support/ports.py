"""Ports for servers that must know theirs before they start."""

import random
import socket

# Below what the kernel gives to connections that go out: no connection takes one between the question and the server's start.
PORTS = range(10_000, 32_768)
given = set()


def free_port():
    """A port of the loopback that is free, and was given to nobody else of this process."""
    while True:
        port = random.choice(PORTS)
        if port in given:
            continue
        given.add(port)
        try:
            socket.create_server(("127.0.0.1", port)).close()
            return port
        except OSError:
            pass
