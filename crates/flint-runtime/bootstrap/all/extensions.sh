#!/bin/sh
# Starts what lies in /opt/extensions, then becomes the runtime, whose command line follows.
for extension in /opt/extensions/*; do
    if [ -f "$extension" ] && [ -x "$extension" ]; then
        # Out of the way of the runtime, which expects no children but its own.
        ("$extension" </dev/null &)
    fi
done
exec "$@"
