"""publish.py PORT BYTES: answers one request with a feed of about so many bytes, and ends. Sockets only: it is small."""
import socket
import sys

port, size = int(sys.argv[1]), int(sys.argv[2])
words = "A paragraph of the length that paragraphs have, with a few words that say little. " * 6
items, total, number = [], 0, 0
while total < size:
    number += 1
    items.append("<item><guid isPermaLink='false'>%d</guid><title>Item %d of the large feed</title>"
                 "<link>http://127.0.0.1/%d</link><description>&lt;p&gt;%s&lt;/p&gt;</description></item>"
                 % (number, number, number, words))
    total += len(items[-1])
body = ("<?xml version='1.0'?><rss version='2.0'><channel><title>The large feed</title>"
        "<link>http://127.0.0.1/</link>%s</channel></rss>" % "".join(items)).encode()
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(1)
print("ready", len(body), flush=True)
visitor, _ = listener.accept()
visitor.recv(65536)
visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                % len(body) + body)
visitor.close()
