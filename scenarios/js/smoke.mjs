// Drives what Flint serves with the JavaScript SDK v3: clients, waiters, paginators, errors, sessions.
//
// Environment: FLINT_URL, FLINT_PYTHON (a runtime), FLINT_ZIP (base64 of an archive with app.py), FLINT_NAME, and the
// SDK's own AWS_* variables. Prints one JSON document; any surprise throws.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// The SDK lies where the test installed it, not beside this file.
const require = createRequire(process.env.FLINT_MODULES + "/");
const { CloudWatchLogsClient, paginateFilterLogEvents } = require("@aws-sdk/client-cloudwatch-logs");
const iamSdk = require("@aws-sdk/client-iam");
const lambdaSdk = require("@aws-sdk/client-lambda");
const { STSClient, AssumeRoleCommand, GetCallerIdentityCommand } = require("@aws-sdk/client-sts");

const { FLINT_URL: endpoint, FLINT_PYTHON: runtime, FLINT_ZIP: zip, FLINT_NAME: name } = process.env;
const settings = { endpoint, maxAttempts: 1 };
const lambda = new lambdaSdk.LambdaClient(settings);
const iam = new iamSdk.IAMClient(settings);
const sts = new STSClient(settings);
const logs = new CloudWatchLogsClient(settings);
const done = [];

async function step(what, run) {
  const result = await run();
  done.push(what);
  return result;
}

/** The error that a command must end with. */
async function refused(client, command, code, status) {
  await assert.rejects(client.send(command), (error) => {
    assert.equal(error.name, code, `${error.name}: ${error.message}`);
    assert.equal(error.$metadata.httpStatusCode, status);
    return true;
  });
}

const trust = JSON.stringify({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }],
});

const role = await step("iam", async () => {
  const made = await iam.send(new iamSdk.CreateRoleCommand({ RoleName: name, AssumeRolePolicyDocument: trust }));
  await iamSdk.waitUntilRoleExists({ client: iam, maxWaitTime: 5 }, { RoleName: name });
  await iam.send(
    new iamSdk.PutRolePolicyCommand({
      RoleName: name,
      PolicyName: "p",
      PolicyDocument: JSON.stringify({ Statement: { Effect: "Allow", Action: "logs:*", Resource: "*" } }),
    }),
  );
  const read = await iam.send(new iamSdk.GetRolePolicyCommand({ RoleName: name, PolicyName: "p" }));
  assert.equal(JSON.parse(decodeURIComponent(read.PolicyDocument)).Statement.Action, "logs:*");
  assert.ok(made.Role.CreateDate instanceof Date);
  return made.Role.Arn;
});

await step("create, wait, invoke with tail", async () => {
  await lambda.send(
    new lambdaSdk.CreateFunctionCommand({
      FunctionName: name, Role: role, Handler: "app.handler", Runtime: runtime,
      Code: { ZipFile: Buffer.from(zip, "base64") }, Environment: { Variables: { GREETING: "hello" } }, Tags: { team: "a" },
    }),
  );
  await lambdaSdk.waitUntilFunctionActiveV2({ client: lambda, maxWaitTime: 20 }, { FunctionName: name });
  const answer = await lambda.send(
    new lambdaSdk.InvokeCommand({ FunctionName: name, LogType: "Tail", Payload: JSON.stringify({ n: 1 }) }),
  );
  assert.deepEqual(JSON.parse(answer.Payload.transformToString()), { n: 1 });
  assert.match(Buffer.from(answer.LogResult, "base64").toString(), /REPORT RequestId/);
});

await step("update and wait", async () => {
  await lambda.send(new lambdaSdk.UpdateFunctionConfigurationCommand({ FunctionName: name, Timeout: 7 }));
  await lambdaSdk.waitUntilFunctionUpdatedV2({ client: lambda, maxWaitTime: 20 }, { FunctionName: name });
  const read = await lambda.send(new lambdaSdk.GetFunctionCommand({ FunctionName: name }));
  assert.equal(read.Configuration.Timeout, 7);
  assert.equal(read.Tags.team, "a");
  const code = await fetch(read.Code.Location);
  assert.equal((await code.arrayBuffer()).byteLength, read.Configuration.CodeSize);
});

await step("a streamed answer", async () => {
  const answer = await lambda.send(
    new lambdaSdk.InvokeWithResponseStreamCommand({ FunctionName: name, Payload: JSON.stringify({ n: 2 }) }),
  );
  const pieces = [];
  let complete = 0;
  for await (const event of answer.EventStream) {
    if (event.PayloadChunk) pieces.push(Buffer.from(event.PayloadChunk.Payload));
    if (event.InvokeComplete) complete += 1;
  }
  assert.deepEqual(JSON.parse(Buffer.concat(pieces).toString()), { n: 2 });
  assert.equal(complete, 1);
});

await step("versions and aliases", async () => {
  const version = await lambda.send(new lambdaSdk.PublishVersionCommand({ FunctionName: name }));
  await lambda.send(
    new lambdaSdk.CreateAliasCommand({ FunctionName: name, Name: "live", FunctionVersion: version.Version }),
  );
  const answer = await lambda.send(new lambdaSdk.InvokeCommand({ FunctionName: name, Qualifier: "live" }));
  assert.equal(answer.ExecutedVersion, version.Version);
});

await step("paginators", async () => {
  const names = [];
  for await (const page of lambdaSdk.paginateListFunctions({ client: lambda, pageSize: 1 }, {})) {
    names.push(...page.Functions.map((f) => f.FunctionName));
  }
  assert.ok(names.includes(name));
  const policies = [];
  for await (const page of iamSdk.paginateListRolePolicies({ client: iam, pageSize: 1 }, { RoleName: name })) {
    policies.push(...page.PolicyNames);
  }
  assert.deepEqual(policies, ["p"]);
  const deadline = Date.now() + 10_000;
  let lines = [];
  while (!lines.some((l) => l.startsWith("REPORT"))) {
    assert.ok(Date.now() < deadline, "no REPORT line");
    lines = [];
    const pages = paginateFilterLogEvents({ client: logs, pageSize: 2 }, { logGroupName: `/aws/lambda/${name}` });
    for await (const page of pages) lines.push(...page.events.map((e) => e.message));
  }
});

await step("sessions", async () => {
  const { Credentials: c, AssumedRoleUser: user } = await sts.send(
    new AssumeRoleCommand({ RoleArn: role, RoleSessionName: "js", DurationSeconds: 900 }),
  );
  const credentials = { accessKeyId: c.AccessKeyId, secretAccessKey: c.SecretAccessKey, sessionToken: c.SessionToken };
  const who = await new STSClient({ ...settings, credentials }).send(new GetCallerIdentityCommand({}));
  assert.equal(who.Arn, user.Arn);
  // What it may do is what the role may.
  const session = new lambdaSdk.LambdaClient({ ...settings, credentials });
  await refused(session, new lambdaSdk.ListFunctionsCommand({}), "AccessDeniedException", 403);
  const policy = { RoleName: name, PolicyName: "list" };
  const statement = { Effect: "Allow", Action: "lambda:ListFunctions", Resource: "*" };
  const PolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
  await iam.send(new iamSdk.PutRolePolicyCommand({ ...policy, PolicyDocument }));
  await session.send(new lambdaSdk.ListFunctionsCommand({}));
  await iam.send(new iamSdk.DeleteRolePolicyCommand(policy));
});

await step("errors", async () => {
  await refused(lambda, new lambdaSdk.GetFunctionCommand({ FunctionName: "none" }), "ResourceNotFoundException", 404);
  await refused(iam, new iamSdk.GetRoleCommand({ RoleName: "none" }), "NoSuchEntityException", 404);
  await refused(iam, new iamSdk.DeleteRoleCommand({ RoleName: name }), "DeleteConflictException", 409);
  await refused(lambda, new lambdaSdk.ListFunctionUrlConfigsCommand({ FunctionName: name }), "NotImplemented", 501);
});

await step("delete", async () => {
  await iam.send(new iamSdk.DeleteRolePolicyCommand({ RoleName: name, PolicyName: "p" }));
  await iam.send(new iamSdk.DeleteRoleCommand({ RoleName: name }));
  await lambda.send(new lambdaSdk.DeleteFunctionCommand({ FunctionName: name }));
});

console.log(JSON.stringify({ done }));
