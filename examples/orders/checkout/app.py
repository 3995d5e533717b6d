"""Takes an order. Nobody waits for it: what it answers goes to the queue `orders`."""


def handler(event, context):
    order = {"id": event["id"], "item": event["item"], "count": event["count"]}
    print(f"order {order['id']} taken")
    return order
