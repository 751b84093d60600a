select version, definitions, thinice
from thinice_schema
