// Streams its answer: each line reaches the caller when it is written, not when the function ends.
//
// Takes {"from": 5, "pauseMs": 200}.

import { setTimeout as sleep } from "node:timers/promises";

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  const { from = 5, pauseMs = 200 } = event;
  stream.setContentType("text/plain");
  for (let n = from; n > 0; n--) {
    stream.write(`${n}\n`);
    await sleep(pauseMs);
  }
  stream.write("lift-off\n");
  stream.end();
});
