"""Policy rules, each with violations that it must detect."""


class Rules(list):
    """Pairs of a check and its violations."""

    def rule(self, *violations):
        """Registers a check with the violations that it must detect."""

        def register(check):
            self.append((check, violations))
            return check

        return register
