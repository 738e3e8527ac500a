"""Calls an echoing gRPC service: once, then over a stream in both directions; prints what comes back."""
import queue
import sys

import grpc

channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials())
print("once", channel.unary_unary("/echo.Echo/Once")(b"one", timeout=60).decode())
words = queue.Queue()
call = channel.stream_stream("/echo.Echo/Many")(iter(words.get, None), timeout=60)
for word in [b"1", b"2", b"3"]:
    words.put(word)
    print("many", next(call).decode())
words.put(None)
assert next(call, None) is None
print("trailer", dict(call.trailing_metadata())["x-count"])
try:
    channel.unary_unary("/echo.Echo/Fail")(b"one", timeout=60)
except grpc.RpcError as err:
    print("error", err.code().name, err.details())
