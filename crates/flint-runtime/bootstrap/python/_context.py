# The parts of the context that only some callers send. Loaded by bootstrap.py at the first event with one.
from __main__ import Fault, loads


class Client(object):
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]

    def __repr__(self):
        return "Client([%s])" % ",".join("%s=%s" % (n, getattr(self, n)) for n in self.__slots__)


class ClientContext(object):
    __slots__ = ["custom", "env", "client"]

    def __repr__(self):
        return "ClientContext([%s])" % ",".join("%s=%s" % (n, getattr(self, n)) for n in self.__slots__)


def parsed(text, what):
    try:
        value = loads(text.encode("utf-8"))
        if value is not None and not isinstance(value, dict):
            raise ValueError("expected an object")
        return value
    except Exception as e:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (what, e))


def made(kind, values):
    made_of = kind()
    for name in kind.__slots__:
        setattr(made_of, name, values.get(name))
    return made_of


def fill(context, headers):
    sent = headers.get("lambda-runtime-client-context")
    values = parsed(sent, "Client Context") if sent else None
    if values is not None:
        context.client_context = made(ClientContext, values)
        client = context.client_context.client
        if isinstance(client, dict):
            context.client_context.client = made(Client, client)
    sent = headers.get("lambda-runtime-cognito-identity")
    values = parsed(sent, "Cognito Identity") if sent else None
    if values is not None:
        context.identity.cognito_identity_id = values.get("cognitoIdentityId")
        context.identity.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")
