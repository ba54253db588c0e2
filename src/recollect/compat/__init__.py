"""The public faces of other systems: thin translations onto the verbs and the database."""
