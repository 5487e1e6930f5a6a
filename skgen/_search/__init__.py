"""Many fits trained as one."""
