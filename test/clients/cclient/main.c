/* cclient HOST [PORT]: fetches http://HOST:PORT/ and prints the body. Linked statically with musl, it has no idea of
 * proxies, of the system's resolver settings beyond /etc/resolv.conf and /etc/hosts, and of TLS. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list, *a;
	struct timeval patience = {.tv_sec = 20};
	int fd = -1, err = getaddrinfo(host, port, &hints, &list);

	if (err) {
		fprintf(stderr, "cclient: looking up %s: %s\n", host, gai_strerror(err));
		return -1;
	}
	for (a = list; a; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
			break;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd < 0)
		perror("cclient: connecting");
	return fd;
}

int main(int argc, char **argv)
{
	static char answer[1 << 20];
	char request[512];
	const char *body;
	size_t have = 0;
	ssize_t n;
	int fd;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: cclient HOST [PORT]\n");
		return 2;
	}
	fd = dial(argv[1], argc == 3 ? argv[2] : "80");
	if (fd < 0)
		return 1;
	n = snprintf(request, sizeof request, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
	if (n >= (ssize_t)sizeof request || write(fd, request, n) != n) {
		fprintf(stderr, "cclient: cannot send the request\n");
		return 1;
	}
	while (have < sizeof answer - 1 && (n = read(fd, answer + have, sizeof answer - 1 - have)) > 0)
		have += n;
	body = strstr(answer, "\r\n\r\n");
	if (n < 0 || !body || !strstr(answer, " 200 ") || strstr(answer, " 200 ") > body) {
		fprintf(stderr, "cclient: no good answer: %.*s\n", (int)strcspn(answer, "\r\n"), answer);
		return 1;
	}
	body += 4;
	fwrite(body, 1, have - (body - answer), stdout);
	return 0;
}
