"""nvecd's configuration: YAML in, typed settings out; and what CONFIG and SHOW VARIABLES say of them."""
