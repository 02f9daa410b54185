-- An index on an immutable function that calls another one without its schema: it cannot be planned under another search_path.
create function a(int) returns int immutable language sql as 'select $1+1';
create function b(int) returns int immutable language sql as 'select a($1)*2';
create table t(x int); create index on t(b(x)); insert into t values (1);
