"""What the reference's documents say about event patterns, as cases.

Each entry is (page, pattern, events that match, events that do not). Pages of the EventBridge User Guide are named by
their file name under https://docs.aws.amazon.com/eventbridge/latest/userguide/, `ruler` is the README of the library
that the reference published (https://github.com/aws/event-ruler), `lambda` is the page `invocation-eventfiltering.html`
of the Lambda Developer Guide. Patterns are the documents' examples or lines of their tables; the events are written to
fit what the text beside them says. An event stands for itself with the mandatory members around it.
"""

PATTERNS, OPERATORS = "eb-event-patterns.html", "eb-create-pattern-operators.html"
NULLS, ARRAYS = "eb-event-patterns-null-values.html", "eb-event-patterns-arrays.html"
RULER, LAMBDA = "ruler", "lambda"

EC2 = {
    "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2", "account": "111122223333", "time": "2017-12-22T18:43:48Z", "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {"instance-id": "i-1234567890abcdef0", "state": "terminated"},
}
SAMPLE = {
    "version": "0", "id": "ddddd4-aaaa-7777-4444-345dd43cc333", "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2", "account": "012345679012", "time": "2017-10-02T16:24:49Z", "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-000000aaaaaa00000"],
    "detail": {
        "c-count": 5, "d-count": 3, "x-limit": 301.8, "source-ip": "10.0.0.33", "instance-id": "i-000000aaaaaa00000",
        "state": "running",
    },
}


def detail(**members):
    """An event with this detail; `_` in names stands for `-`."""
    return {"detail": {name.replace("_", "-"): value for name, value in members.items()}}


def details(name, *values):
    return [{"detail": {name: value}} for value in values]


def op(name, expression):
    return {"detail": {name: [expression]}}


MATCHING = [
    # --- Creating event patterns
    (PATTERNS, {"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"],
                "detail": {"state": ["terminated"]}},
     [EC2], [{**EC2, "source": "aws.s3"}, {**EC2, "detail": {"state": "running"}}, {**EC2, "detail": {}}]),
    (PATTERNS, {"source": ["aws.ec2"]}, [EC2, SAMPLE], [{**EC2, "source": "AWS.EC2"}, {**EC2, "source": "aws.ec2 "}]),
    (PATTERNS, {"source": ["aws.ec2", "aws.fargate"]}, [EC2, {**EC2, "source": "aws.fargate"}], [{**EC2, "source": "aws"}]),
    (PATTERNS, {"account": ["111122223333"], "region": ["us-west-1", "us-west-2"]}, [EC2], [SAMPLE]),
    (PATTERNS, {"detail": {"instance-id": ["i-1234567890abcdef0"], "state": ["stopped", "terminated"]}}, [EC2], [SAMPLE]),
    # --- Arrays
    (ARRAYS, {"resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-b188560f",
                            "arn:aws:ec2:us-east-1:111122223333:instance/i-b188560f",
                            "arn:aws:ec2:us-east-1:444455556666:instance/i-b188560f"]},
     [{"resources": ["arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:eb56d16b",
                     "arn:aws:ec2:us-east-1:123456789012:instance/i-b188560f"]},
      {"resources": ["arn:aws:ec2:us-east-1:444455556666:instance/i-b188560f"]}],
     [EC2, {"resources": []}, {"resources": ["arn:aws:ec2:us-east-1:123456789012:instance"]}]),
    # --- Null and empty
    (NULLS, {"detail": {"eventVersion": [""]}}, details("eventVersion", ""), details("eventVersion", None, " ", "1.0", [])),
    (NULLS, {"detail": {"responseElements": [None]}}, details("responseElements", None, [None, "x"]),
     details("responseElements", "", "null", 0, {"a": None}) + [detail(other=1)]),
    # --- Operators: the table
    (OPERATORS, {"Location": ["New York"], "Day": ["Monday"]}, [{"Location": "New York", "Day": "Monday"}],
     [{"Location": "New York", "Day": "Friday"}, {"Location": "New York"}]),
    (OPERATORS, {"LastName": [""]}, [{"LastName": ""}], [{"LastName": "Li"}, {}]),
    (OPERATORS, {"Name": ["Alice"]}, [{"Name": "Alice"}], [{"Name": "alice"}]),
    (OPERATORS, {"Name": [{"equals-ignore-case": "alice"}]}, [{"Name": "Alice"}, {"Name": "ALICE"}], [{"Name": "Alice "}]),
    (OPERATORS, {"ProductName": [{"exists": True}]}, [{"ProductName": "x"}, {"ProductName": None}, {"ProductName": ""}], [{}]),
    (OPERATORS, {"ProductName": [{"exists": False}]}, [{}, {"Other": 1}], [{"ProductName": "x"}, {"ProductName": None}]),
    (OPERATORS, {"Weather": [{"anything-but": ["Raining"]}]}, [{"Weather": "Sunny"}], [{"Weather": "Raining"}, {}]),
    (OPERATORS, {"UserID": [None]}, [{"UserID": None}], [{"UserID": "1"}, {}]),
    (OPERATORS, {"Price": [{"numeric": ["=", 100]}]}, [{"Price": 100}, {"Price": 100.0}], [{"Price": "100"}, {"Price": 101}]),
    (OPERATORS, {"Price": [{"numeric": [">", 10, "<=", 20]}]}, [{"Price": 10.5}, {"Price": 20}],
     [{"Price": 10}, {"Price": 20.1}, {"Price": "15"}]),
    (OPERATORS, {"PaymentType": ["Credit", "Debit"]}, [{"PaymentType": "Debit"}], [{"PaymentType": "Cash"}]),
    (OPERATORS, {"$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}]},
     [{"Location": "New York", "Day": "Friday"}, {"Location": "Rome", "Day": "Monday"}], [{"Location": "Rome"}, {}]),
    (OPERATORS, {"FileName": [{"wildcard": "dir/*.png"}]}, [{"FileName": "dir/a.png"}, {"FileName": "dir/.png"}],
     [{"FileName": "dir/a.jpg"}, {"FileName": "a/dir/a.png"}]),
    # --- Prefix and suffix
    (OPERATORS, {"time": [{"prefix": "2017-10-02"}]}, [SAMPLE, {"time": "2017-10-02"}], [EC2, {"time": "17-10-02"}]),
    (OPERATORS, op("service", {"prefix": {"equals-ignore-case": "EventB"}}),
     details("service", "EventBridge", "EVENTBRIDGE", "eventb"), details("service", "Event", "AnEventB", 5)),
    (OPERATORS, {"FileName": [{"suffix": ".png"}]}, [{"FileName": "a.png"}, {"FileName": ".png"}], [{"FileName": "a.PNG"}]),
    (OPERATORS, op("FileName", {"suffix": {"equals-ignore-case": ".png"}}),
     details("FileName", "a.PNG", "b.Png"), details("FileName", "a.png.txt", None)),
    (OPERATORS, {"Region": [{"prefix": "us-"}]}, [{"Region": "us-east-1"}], [{"Region": "eu-west-1"}, {"Region": 1}]),
    # --- Anything-but
    (OPERATORS, op("state", {"anything-but": "initializing"}),
     details("state", "running", "Initializing", "", None, 7, ["initializing", "x"]), details("state", "initializing") + [{}]),
    (OPERATORS, op("x-limit", {"anything-but": 123}), details("x-limit", 124, 0, "123"), details("x-limit", 123, 123.0, 1.23e2)),
    (OPERATORS, op("state", {"anything-but": ["stopped", "overloaded"]}), details("state", "running"),
     details("state", "stopped", "overloaded", ["stopped", "overloaded"])),
    (OPERATORS, op("x-limit", {"anything-but": [100, 200, 300]}), details("x-limit", 101, 301.8), details("x-limit", 100, 3e2)),
    (OPERATORS, op("state", {"anything-but": {"equals-ignore-case": "initializing"}}), details("state", "running"),
     details("state", "initializing", "INITIALIZING")),
    (OPERATORS, op("state", {"anything-but": {"equals-ignore-case": ["initializing", "stopped"]}}),
     details("state", "running", "init"), details("state", "Stopped", "initiaLizing")),
    (OPERATORS, op("state", {"anything-but": {"prefix": "init"}}), details("state", "running", "reinit"), details("state", "initial")),
    (OPERATORS, op("state", {"anything-but": {"prefix": ["init", "error"]}}), details("state", "running"),
     details("state", "initial", "errors")),
    (OPERATORS, {"FileName": [{"anything-but": {"suffix": ".txt"}}]}, [{"FileName": "a.png"}], [{"FileName": "a.txt"}, {}]),
    (OPERATORS, {"FileName": [{"anything-but": {"suffix": [".txt", ".rtf"]}}]}, [{"FileName": "a.doc"}],
     [{"FileName": "a.rtf"}, {"FileName": ".txt"}]),
    (OPERATORS, {"FilePath": [{"anything-but": {"wildcard": "*/lib/*"}}]}, [{"FilePath": "/usr/bin/x"}, {"FilePath": "lib/x"}],
     [{"FilePath": "/usr/lib/x"}, {"FilePath": "/lib/"}]),
    (OPERATORS, {"FilePath": [{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}]}, [{"FilePath": "/etc/x"}],
     [{"FilePath": "/usr/lib/x"}, {"FilePath": "/usr/bin/y"}]),
    # --- Numeric
    (OPERATORS, {"detail": {"c-count": [{"numeric": [">", 0, "<=", 5]}], "d-count": [{"numeric": ["<", 10]}],
                            "x-limit": [{"numeric": ["=", 3.018e2]}]}},
     [SAMPLE, detail(c_count=0.1, d_count=-9, x_limit=301.80)],
     [detail(c_count=0, d_count=3, x_limit=301.8), detail(c_count=5, d_count=10, x_limit=301.8),
      detail(c_count=5, d_count=3, x_limit=301.81), detail(c_count="5", d_count=3, x_limit=301.8)]),
    (OPERATORS, op("n", {"numeric": [">=", -5.0e9]}), details("n", -5.0e9, 0, 5.0e9, 0.000001), details("n", "0", None, 5.1e9)),
    # --- Addresses
    (OPERATORS, op("sourceIPAddress", {"cidr": "10.0.0.0/24"}), details("sourceIPAddress", "10.0.0.0", "10.0.0.255"),
     details("sourceIPAddress", "10.0.1.0", "10.0.0.256", "10.0.0", "x", 10)),
    (OPERATORS, op("sourceIPAddress", {"cidr": "2001:db8::/32"}), details("sourceIPAddress", "2001:db8::1", "2001:DB8:ffff::"),
     details("sourceIPAddress", "2001:db9::1", "10.0.0.1")),
    # --- Exists
    (OPERATORS, op("state", {"exists": True}), [EC2, SAMPLE], [detail(other=1), {}]),
    (OPERATORS, op("c-count", {"exists": False}), [EC2, {}, detail(c_count={"c1": 100})], [SAMPLE]),
    (OPERATORS, {"detail": {"c-count": [{"exists": False}, {"numeric": [">", 9]}]}}, [{}, detail(c_count=10)], [SAMPLE]),
    (OPERATORS, op("c-count", {"exists": True}), [SAMPLE], [detail(c_count={"c1": 100}), detail(c_count=[])]),
    # --- Equals-ignore-case
    (OPERATORS, {"detail-type": [{"equals-ignore-case": "ec2 instance state-change notification"}]}, [EC2, SAMPLE],
     [{"detail-type": "ec2 instance"}]),
    # --- Wildcards
    (OPERATORS, {"EventBusArn": [{"wildcard": "arn:aws:events:us-east-1:*:event-bus/*"}]},
     [{"EventBusArn": "arn:aws:events:us-east-1:123456789012:event-bus/myEventBus"}],
     [{"EventBusArn": "arn:aws:events:us-west-1:123456789012:event-bus/myEventBus"}]),
    (OPERATORS, {"EventBusArn": [{"wildcard": "arn:aws:events:*:*:event-bus/*"}]},
     [{"EventBusArn": "arn:aws:events:us-west-1:1:event-bus/b"}], [{"EventBusArn": "arn:aws:sqs:us-west-1:1:event-bus/b"}]),
    (OPERATORS, {"FilePath": [{"wildcard": "C:\\\\Users\\\\*"}]}, [{"FilePath": "C:\\Users\\ann"}], [{"FilePath": "C:/Users/ann"}]),
    (OPERATORS, {"FileName": [{"wildcard": "a\\*b"}]}, [{"FileName": "a*b"}], [{"FileName": "axb"}, {"FileName": "a\\*b"}]),
    # --- Several matches
    (OPERATORS, {"time": [{"prefix": "2017-10-02"}],
                 "detail": {"state": [{"anything-but": "initializing"}], "c-count": [{"numeric": [">", 0, "<=", 5]}],
                            "d-count": [{"numeric": ["<", 10]}], "x-limit": [{"anything-but": [100, 200, 300]}]}},
     [SAMPLE], [EC2, {**SAMPLE, "detail": {**SAMPLE["detail"], "x-limit": 200}}]),
    (OPERATORS, {"detail": {"$or": [{"c-count": [{"numeric": [">", 0, "<=", 5]}]}, {"d-count": [{"numeric": ["<", 10]}]},
                                    {"x-limit": [{"numeric": ["=", 3.018e2]}]}]}},
     [SAMPLE, detail(c_count=9, d_count=9, x_limit=1), detail(x_limit=301.8)], [detail(c_count=6, d_count=10, x_limit=1)]),
    (OPERATORS, {"source": ["aws.cloudwatch"], "$or": [
        {"metricName": ["CPUUtilization", "ReadLatency"]},
        {"metricType": ["MetricType"], "namespace": ["AWS/EC2", "AWS/ES"],
         "$or": [{"metricId": [1234]}, {"spaceId": [1000]}]},
        {"scope": ["Service"]}]},
     [{"source": "aws.cloudwatch", "metricName": "ReadLatency"}, {"source": "aws.cloudwatch", "scope": "Service"},
      {"source": "aws.cloudwatch", "metricType": "MetricType", "namespace": "AWS/ES", "spaceId": 1000}],
     [{"source": "aws.ec2", "scope": "Service"}, {"source": "aws.cloudwatch"},
      {"source": "aws.cloudwatch", "metricType": "MetricType", "namespace": "AWS/ES", "metricId": 1000}]),
    # --- The library's README
    (RULER, {"detail-type": ["EC2 Instance State-change Notification"],
             "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-000000aaaaaa00000"],
             "detail": {"state": ["initializing", "running"]}}, [SAMPLE], [EC2]),
    (RULER, {"source": [{"suffix": "ec2"}]}, [EC2], [{"source": "aws.EC2"}]),
    (RULER, {"source": [{"equals-ignore-case": "AWS.EC2"}]}, [EC2], [{"source": "EC2"}]),
    (RULER, {"source": [{"wildcard": "Simple*Service"}]}, [{"source": "SimpleQueueService"}, {"source": "SimpleService"}],
     [{"source": "SimpleServices"}]),
    (RULER, op("source-ip", {"cidr": "10.0.0.0/8"}), [SAMPLE], details("source-ip", "11.0.0.1")),
    (RULER, {"$or": [{"metricName": ["CPUUtilization"]}, {"namespace": ["AWS/EC2"]}],
             "detail": {"$or": [{"source": ["aws.cloudwatch"]}, {"detail-type": ["CloudWatch Alarm State Change"]}]}},
     [{"namespace": "AWS/EC2", "detail": {"source": "aws.cloudwatch"}}],
     [{"namespace": "AWS/EC2", "detail": {}}, {"detail": {"source": "aws.cloudwatch"}}]),
    (RULER, {"employees": {"firstName": ["Anna"], "lastName": ["Jones"]}},
     [{"employees": [{"firstName": "Anna", "lastName": "Jones"}, {"firstName": "Bo", "lastName": "Ek"}]}],
     [{"employees": [{"firstName": "Anna", "lastName": "Ek"}, {"firstName": "Bo", "lastName": "Jones"}]}]),
    (RULER, op("x", 300.0), details("x", 300, 3e2, 300.00), details("x", "300.0", 300.1)),
    (RULER, op("x", 1e2), details("x", 100), details("x", 1)),
    # --- Filters of Lambda
    (LAMBDA, {"Metadata": {"UserID": [None]}}, [{"Metadata": {"UserID": None}}], [{"Metadata": {"UserID": 0}}]),
    (LAMBDA, {"RequestCode": ["BBBB"], "Metadata": {"Lab": [{"anything-but": ["B"]}]}},
     [{"RequestCode": "BBBB", "Metadata": {"Lab": "A"}}], [{"RequestCode": "BBBB", "Metadata": {"Lab": "B"}}]),
    (LAMBDA, {"Flag": [True]}, [{"Flag": True}, {"Flag": [False, True]}], [{"Flag": False}, {"Flag": "true"}, {"Flag": 1}]),
]

# (page, pattern as text, the beginning of the reason). Page `ruler` here is the library itself: the messages are its own.
REFUSED = [
    (PATTERNS, '{"source": "aws.ec2"}', '"source" must be an object or an array\n at [Source: (String)"{"source": "aws.ec2"}"; line: 1, column: 13]'),
    (PATTERNS, '{"source": ["aws.health"], "detail": {}}', "Empty objects are not allowed\n at [Source: (String)"),
    (PATTERNS, '{"detail": {"state": 5}}', '"state" must be an object or an array'),
    (PATTERNS, '["source"]', "Filter is not an object"),
    (PATTERNS, '"source"', "Filter is not an object"),
    (ARRAYS, '{"source": []}', "Empty arrays are not allowed"),
    (ARRAYS, '{"source": [["aws.ec2"]]}', "Match value must be String, number, true, false, or null"),
    (OPERATORS, '{"a": [{"contains": "x"}]}', "Unrecognized match type contains"),
    (OPERATORS, '{"a": [{}]}', "Match expression name not found"),
    (OPERATORS, '{"a": [{"prefix": 5}]}', "prefix match pattern must be a string"),
    (OPERATORS, '{"a": [{"suffix": null}]}', "suffix match pattern must be a string"),
    (OPERATORS, '{"a": [{"prefix": "x", "suffix": "y"}]}', "Only one key allowed in match expression"),
    (OPERATORS, '{"a": [{"prefix": {"suffix": "x"}}]}', "Unsupported prefix pattern: suffix"),
    (OPERATORS, '{"a": [{"suffix": {}}]}', "Suffix expression name not found"),
    (OPERATORS, '{"a": [{"equals-ignore-case": ["x"]}]}', "equals-ignore-case match pattern must be a string"),
    (OPERATORS, '{"a": [{"wildcard": 5}]}', "wildcard match pattern must be a string"),
    (OPERATORS, '{"a": [{"wildcard": "a**b"}]}', "Consecutive wildcard characters at pos 2"),
    (OPERATORS, '{"a": [{"wildcard": "a\\\\b"}]}', "Invalid escape character at pos 2"),
    (OPERATORS, '{"a": [{"exists": "true"}]}', "exists match pattern must be either true or false."),
    (OPERATORS, '{"a": [{"cidr": "10.0.0.0"}]}', "Malformed CIDR, one '/' required"),
    (OPERATORS, '{"a": [{"cidr": "10.0.0.0/x"}]}', "Malformed CIDR, mask bits must be an integer"),
    (OPERATORS, '{"a": [{"cidr": "10.0.0.0/-1"}]}', "Malformed CIDR, mask bits must not be negative"),
    (OPERATORS, '{"a": [{"cidr": "10.0.0.0/32"}]}', "IPv4 mask bits must be < 32"),
    (OPERATORS, '{"a": [{"cidr": "::/128"}]}', "IPv6 mask bits must be < 128"),
    (OPERATORS, '{"a": [{"cidr": "10.0.0/8"}]}', "Nonstandard IP address: 10.0.0"),
    (OPERATORS, '{"a": [{"numeric": 5}]}', "Value of numeric must be an array."),
    (OPERATORS, '{"a": [{"numeric": ["!=", 5]}]}', "Unrecognized numeric range operator: !="),
    (OPERATORS, '{"a": [{"numeric": [5]}]}', "Invalid member in numeric match: "),
    (OPERATORS, '{"a": [{"numeric": ["=", "5"]}]}', "Value of equals must be numeric"),
    (OPERATORS, '{"a": [{"numeric": [">", "5"]}]}', "Value of > must be numeric"),
    (OPERATORS, '{"a": [{"numeric": ["<", 5, ">", 1]}]}', "Too many elements in numeric expression"),
    (OPERATORS, '{"a": [{"numeric": [">", 5, ">", 9]}]}', "Bad numeric range operator: >"),
    (OPERATORS, '{"a": [{"numeric": [">", 5, "<", 5]}]}', "Bottom must be less than top"),
    (OPERATORS, '{"a": [{"numeric": [">", 5, "<", 9, "<", 10]}]}', "Too many terms in numeric range expression"),
    (OPERATORS, '{"a": [{"numeric": ["<", 5000000001]}]}', "Value must be between -5.0E9 and 5.0E9, inclusive"),
    (OPERATORS, '{"a": [{"anything-but": null}]}', "Value of anything-but must be an array or single string/number value."),
    (OPERATORS, '{"a": [{"anything-but": []}]}', "Inside anything but list, either all values are number or string, mixed type is not supported"),
    (OPERATORS, '{"a": [{"anything-but": ["x", 5]}]}', "Inside anything but list, either all values are number or string, mixed type is not supported"),
    (OPERATORS, '{"a": [{"anything-but": [true]}]}', "Inside anything but list, start|null|boolean is not supported."),
    (OPERATORS, '{"a": [{"anything-but": {"numeric": 5}}]}', "Unsupported anything-but pattern: numeric"),
    (OPERATORS, '{"a": [{"anything-but": {"prefix": ""}}]}', "Null prefix/suffix not allowed"),
    (OPERATORS, '{"a": [{"anything-but": {"suffix": [5]}}]}', "prefix/suffix match pattern must be a string"),
    (OPERATORS, '{"a": [{"anything-but": {"equals-ignore-case": [5]}}]}', "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."),
    (OPERATORS, '{"$or": {"a": [1]}}', "It must be an Array followed with $or."),
    (OPERATORS, '{"$or": [{"a": [1]}]}', "There must have at least 2 Objects in $or relationship."),
    (OPERATORS, '{"$or": ["a", "b"]}', "Only JSON object is allowed in array of $or relationship."),
    (RULER, '{"$or": [{"numeric": [123]}, {"prefix": ["abc"]}]}', "numeric is Ruler reserved fieldName which cannot be used inside $or."),
    (PATTERNS, '{"a": [1]', "Unexpected end-of-input"),
    (PATTERNS, "{a: [1]}", "Unexpected character ('a' (code 97)): was expecting double-quote to start field name"),
    (PATTERNS, '{"a": [nil]}', "Unrecognized token 'nil': was expecting "),
]
