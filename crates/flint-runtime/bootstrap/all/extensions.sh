#!/bin/sh
# Starts what lies in /opt/extensions, then becomes the runtime, whose command line follows.
for extension in /opt/extensions/*; do
    if [ -f "$extension" ] && [ -x "$extension" ]; then
        # Out of the way of the runtime, which expects no children but its own.
        # What it prints is marked, as it shares a pipe with the function: the one that has less to carry, so that lines that
        # are written in pieces are not torn.
        ("$extension" </dev/null 2>&1 | while IFS= read -r line || [ -n "$line" ]; do
            printf '\001x\002%s\n' "$line"
        done >&2 &)
    fi
done
exec "$@"
