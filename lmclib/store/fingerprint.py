def code_fingerprint(*roots):
    return "stub"


def source_closure(source):
    return {}
