"""Many pictures for whoever does not wait: files of JSON lines, worked on when nobody else needs the engine.

In OpenAI's shape (`/v1/files`, `/v1/batches`), kept in the operator's data folder and continued after a restart.
"""
