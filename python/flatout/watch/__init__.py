"""Traffic of a server in production: counted in the kernel, a second at a time, with bursts, drops and a quota."""
